;; The recipe is not UTF-8.
;; expects: builder-invalid-value
(core module $code
  (memory (export "memory") 1)
  (data (i32.const 16) "\00\00\00\00\00\04\00\00\01\00\00\00\80\00\00\00\04\00\00\00")
  (data (i32.const 64) "{}")
  (data (i32.const 128) "\c0\af\fe\ff")
  (func (export "realloc") (param i32 i32 i32 i32) (result i32)
    i32.const 1024)
  (func (export "build") (param i32 i32 i32 i32 i32 i32 i32 i64 i32 i32) (result i32)
    i32.const 16))
