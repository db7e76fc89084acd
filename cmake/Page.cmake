# The page of fastkv serve, from src/server/page/ into the program.
file(GLOB page_files CONFIGURE_DEPENDS ${PROJECT_SOURCE_DIR}/src/server/page/*)
set(page_source ${PROJECT_BINARY_DIR}/generated/page.cpp)
add_custom_command(OUTPUT ${page_source}
                   COMMAND ${CMAKE_COMMAND} -DFOLDER=${PROJECT_SOURCE_DIR}/src/server/page -DOUTPUT=${page_source}
                           -P ${PROJECT_SOURCE_DIR}/cmake/EmbedPage.cmake
                   DEPENDS ${page_files} ${PROJECT_SOURCE_DIR}/cmake/EmbedPage.cmake
                   COMMENT "Embedding the page" VERBATIM)
target_sources(fastkv-server PRIVATE ${page_source})
