# cudadent_embed_files(<variable> <folder> <function> <extension>…): sets the variable to the generated source
# that defines <function>(), with every file below <folder> that has one of the extensions. Made anew when a
# file changes, appears or goes; the folder may be empty.
function(cudadent_embed_files variable folder function)
  set(root "${PROJECT_SOURCE_DIR}/${folder}")
  set(output "${PROJECT_BINARY_DIR}/generated/${function}.cpp")
  set(script "${PROJECT_SOURCE_DIR}/cmake/embed_files.cmake")
  list(TRANSFORM ARGN REPLACE "(.+)" "${root}/*.\\1" OUTPUT_VARIABLE patterns)
  file(GLOB_RECURSE files RELATIVE "${root}" CONFIGURE_DEPENDS ${patterns})
  list(SORT files)
  # The list is a file so that one that disappears changes a dependency too.
  list(JOIN files "\n" names)
  file(CONFIGURE OUTPUT "${output}.list" CONTENT "${names}\n" @ONLY)
  list(TRANSFORM files PREPEND "${root}/")
  add_custom_command(
      OUTPUT "${output}"
      COMMAND "${CMAKE_COMMAND}" -D "root=${root}" -D "list=${output}.list" -D "output=${output}"
              -D "function=${function}" -D "folder=${folder}" -P "${script}"
      DEPENDS ${files} "${output}.list" "${script}"
      COMMENT "Embedding ${folder}" VERBATIM)
  set(${variable} "${output}" PARENT_SCOPE)
endfunction()
