;; The recipe begins beyond its memory.
;; expects: builder-invalid-value
(core module $code
  (memory (export "memory") 1)
  (data (i32.const 16) "\00\00\00\00\00\04\00\00\01\00\00\00\f8\ff\ff\ff\04\00\00\00")
  (data (i32.const 64) "{}")
  (func (export "realloc") (param i32 i32 i32 i32) (result i32)
    i32.const 1024)
  (func (export "build") (param i32 i32 i32 i32 i32 i32 i32 i64 i32 i32) (result i32)
    i32.const 16))
