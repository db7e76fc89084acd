// Text on its way in and out: UTF-8, and numbers as people read them.
#pragma once

#include "text/format.h"
#include "text/numbers.h"
#include "text/utf8.h"

namespace fastkv::cli {

using text::bytes_text;
using text::count_text;
using text::format;
using text::is_cut_utf8;
using text::seconds_text;
using text::Utf8Stream;
using text::valid_utf8_prefix;

}  // namespace fastkv::cli
