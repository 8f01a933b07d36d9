;; Divides by zero.
;; expects: builder-trapped
(core module $code
  (memory (export "memory") 1)
  (func (export "realloc") (param i32 i32 i32 i32) (result i32)
    i32.const 1024)
  (func (export "build") (param i32 i32 i32 i32 i32 i32 i32 i64 i32 i32) (result i32)
    (i32.div_u (i32.const 1) (i32.const 0))))
