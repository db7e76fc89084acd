// What files with instructions of AVX512-FP16 have in common: whether this compiler knows them, and how to ask for
// them.
#pragma once

#if defined(__x86_64__) && defined(__linux__) && __has_include(<avx512fp16intrin.h>)

// GCC 12's own headers leave vectors uninitialised where it does not matter, and then warn of it.
#pragma GCC diagnostic ignored "-Wuninitialized"
#pragma GCC diagnostic ignored "-Wmaybe-uninitialized"

#include <immintrin.h>

#define FASTKV_HAS_HALF 1
#define FASTKV_HALF __attribute__((target("avx512fp16,avx512f,avx512bw,avx512dq,avx512vl")))

#else

#define FASTKV_HAS_HALF 0

#endif
