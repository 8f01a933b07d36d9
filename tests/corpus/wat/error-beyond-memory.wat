;; The error string lies beyond its memory.
;; expects: builder-invalid-value
(core module $code
  (memory (export "memory") 1)
  (data (i32.const 16) "\01\00\00\00\ff\ff\ff\7f\ff\ff\ff\7f")
  (func (export "realloc") (param i32 i32 i32 i32) (result i32)
    i32.const 1024)
  (func (export "build") (param i32 i32 i32 i32 i32 i32 i32 i64 i32 i32) (result i32)
    i32.const 16))
