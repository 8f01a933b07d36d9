;; Functions that call each other in a loop, through a table.
;; expects: builder-out-of-fuel
(core module $code
  (memory (export "memory") 1)
  (type $nothing (func))
  (table 2 funcref)
  (elem (i32.const 0) $one $two)
  (func $one)
  (func $two (call_indirect (type $nothing) (i32.const 0)))
  (func (export "realloc") (param i32 i32 i32 i32) (result i32)
    i32.const 1024)
  (func (export "build") (param i32 i32 i32 i32 i32 i32 i32 i64 i32 i32) (result i32)
    (loop $forever
      (call_indirect (type $nothing) (i32.const 1))
      (br $forever))
    unreachable))
