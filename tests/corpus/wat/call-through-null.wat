;; Calls an empty table entry.
;; expects: builder-trapped
(core module $code
  (memory (export "memory") 1)
  (type $nothing (func))
  (table 1 funcref)
  (func (export "realloc") (param i32 i32 i32 i32) (result i32)
    i32.const 1024)
  (func (export "build") (param i32 i32 i32 i32 i32 i32 i32 i64 i32 i32) (result i32)
    (call_indirect (type $nothing) (i32.const 0))
    i32.const 16))
