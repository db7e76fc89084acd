# FASTKV_SANITIZE: the flags for everything that is compiled here; LlamaFromSource takes its own from them.
set(fastkv_sanitizer_flags "")
if(FASTKV_SANITIZE)
    set(fastkv_sanitizer_flags -fsanitize=${FASTKV_SANITIZE} -fno-sanitize-recover=all -fno-omit-frame-pointer)
    add_compile_options(${fastkv_sanitizer_flags})
    add_link_options(-fsanitize=${FASTKV_SANITIZE})
endif()
