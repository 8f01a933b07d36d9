;; realloc answers an address that is not aligned.
;; expects: builder-invalid-value
(core module $code
  (memory (export "memory") 1)
  (func (export "realloc") (param i32 i32 i32 i32) (result i32)
    i32.const 1)
  (func (export "build") (param i32 i32 i32 i32 i32 i32 i32 i64 i32 i32) (result i32)
    i32.const 16))
