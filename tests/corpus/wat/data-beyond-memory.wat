;; A data segment outside of its memory.
;; expects: builder-trapped
(core module $code
  (memory (export "memory") 1)
  (data (i32.const 65530) "0123456789")
  (func (export "realloc") (param i32 i32 i32 i32) (result i32)
    i32.const 1024)
  (func (export "build") (param i32 i32 i32 i32 i32 i32 i32 i64 i32 i32) (result i32)
    i32.const 16))
