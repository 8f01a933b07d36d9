;; A graph of 200 MB: more than the engine copies.
;; expects: plan-too-large
(core module $code
  (memory (export "memory") 4096)
  (data (i32.const 16) "\00\00\00\00\00\04\00\00\00\c2\eb\0b\40\00\00\00\02\00\00\00")
  (data (i32.const 64) "{}")
  (func (export "realloc") (param i32 i32 i32 i32) (result i32)
    i32.const 1024)
  (func (export "build") (param i32 i32 i32 i32 i32 i32 i32 i64 i32 i32) (result i32)
    i32.const 16))
