// Names for hidden values: RULER's are pairs of an adjective and a noun too, from the lists of the package wonderwords;
// these are common English words of our own.
#pragma once

#include <string>

#include "eval/random.h"

namespace fastkv::eval {

/// "quiet-lantern", one of some 80,000.
std::string random_word_pair(Random& random);

}  // namespace fastkv::eval
