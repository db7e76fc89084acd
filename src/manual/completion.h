// What shells complete: commands, flags, and their values where these are files or words.
#pragma once

#include <string>

#include "manual/command.h"

namespace fastkv::manual {

/// For share/bash-completion/completions/fastkv. Needs bash 4.4 and nothing else.
std::string bash_completion(const Command& command);

/// For share/zsh/site-functions/_fastkv.
std::string zsh_completion(const Command& command);

/// For share/fish/vendor_completions.d/fastkv.fish.
std::string fish_completion(const Command& command);

}  // namespace fastkv::manual
