// What a call complains of.
#pragma once

#include <string>

#include "fastkv/error.h"

namespace fastkv::test {

/// The text of the Error that `call` throws.
template <class Call>
std::string message_of(Call&& call) {
    try {
        call();
    } catch (const Error& error) {
        return error.what();
    }
    return "(no error)";
}

}  // namespace fastkv::test
