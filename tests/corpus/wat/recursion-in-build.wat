;; Recursion without end.
;; expects: builder-stack-overflow
(core module $code
  (memory (export "memory") 1)
  (func $deeper (call $deeper))
  (func (export "realloc") (param i32 i32 i32 i32) (result i32)
    i32.const 1024)
  (func (export "build") (param i32 i32 i32 i32 i32 i32 i32 i64 i32 i32) (result i32)
    call $deeper
    i32.const 16))
