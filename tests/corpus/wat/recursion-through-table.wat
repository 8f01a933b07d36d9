;; Mutual recursion through a table.
;; expects: builder-stack-overflow
(core module $code
  (memory (export "memory") 1)
  (type $nothing (func))
  (table 2 funcref)
  (elem (i32.const 0) $one $two)
  (func $one (call_indirect (type $nothing) (i32.const 1)))
  (func $two (call_indirect (type $nothing) (i32.const 0)))
  (func (export "realloc") (param i32 i32 i32 i32) (result i32)
    i32.const 1024)
  (func (export "build") (param i32 i32 i32 i32 i32 i32 i32 i64 i32 i32) (result i32)
    call $one
    i32.const 16))
