;; A recipe of 1 MB.
;; expects: plan-too-large
(core module $code
  (memory (export "memory") 64)
  (data (i32.const 16) "\00\00\00\00\00\04\00\00\01\00\00\00\00\04\00\00\40\42\0f\00")
  (data (i32.const 64) "{}")
  (func (export "realloc") (param i32 i32 i32 i32) (result i32)
    i32.const 1024)
  (func (export "build") (param i32 i32 i32 i32 i32 i32 i32 i64 i32 i32) (result i32)
    i32.const 16))
