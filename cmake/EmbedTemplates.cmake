# cudadent_embed_templates(<variable>): sets it to the generated source that defines embedded_files(), with
# everything below kernel_templates/. Made anew when a file changes, appears or goes.
function(cudadent_embed_templates variable)
  set(root "${PROJECT_SOURCE_DIR}/kernel_templates")
  set(output "${PROJECT_BINARY_DIR}/generated/embedded_files.cpp")
  set(script "${PROJECT_SOURCE_DIR}/cmake/embed_templates.cmake")
  set(patterns)
  foreach(extension json cu cuh cpp h)
    list(APPEND patterns "${root}/*.${extension}")
  endforeach()
  file(GLOB_RECURSE files RELATIVE "${root}" CONFIGURE_DEPENDS ${patterns})
  list(SORT files)
  # The list is a file so that one that disappears changes a dependency too.
  list(JOIN files "\n" names)
  file(CONFIGURE OUTPUT "${output}.list" CONTENT "${names}\n" @ONLY)
  list(TRANSFORM files PREPEND "${root}/")
  add_custom_command(
      OUTPUT "${output}"
      COMMAND "${CMAKE_COMMAND}" -D "root=${root}" -D "list=${output}.list" -D "output=${output}"
              -P "${script}"
      DEPENDS ${files} "${output}.list" "${script}"
      COMMENT "Embedding kernel_templates" VERBATIM)
  set(${variable} "${output}" PARENT_SCOPE)
endfunction()
