// fastkv chat: a conversation about a document, on one compressed cache.
#pragma once

#include "cli/options.h"

namespace fastkv::cli {

struct ChatOptions {
    ModelOptions model;
    std::string file;       ///< -f: the document
    std::string text;       ///< -p: the document itself
    bool has_text = false;  ///< -p was given, if only ""
    std::string system;     ///< -sys
    MethodOptions method;
    SamplerParams sampler;
    int n_predict = 512;  ///< of each answer; -1: until it ends or the context is full
    bool recompress = false;
    bool verbose = false;
};

void add_chat_command(CLI::App& app, ChatOptions& options);

/// Returns the exit code: 0, or 130 where a script was interrupted. Throws Error where nobody types who could do
/// better.
int chat(const ChatOptions& options);

}  // namespace fastkv::cli
