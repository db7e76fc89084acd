# The warnings that all of fastkv is compiled with, carried by one interface target.
add_library(fastkv-build-flags INTERFACE)
if(MSVC)
    target_compile_options(fastkv-build-flags INTERFACE /W4 $<$<BOOL:${FASTKV_WERROR}>:/WX>)
else()
    # Not missing-field-initializers: parameters are named where they differ from their defaults, {.kernel = 21}.
    target_compile_options(fastkv-build-flags INTERFACE -Wall -Wextra -Wpedantic -Wshadow
                                                        -Wno-missing-field-initializers
                                                        $<$<BOOL:${FASTKV_WERROR}>:-Werror>)
endif()
