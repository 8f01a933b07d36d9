;; Calls a table entry as if it were of another type.
;; expects: builder-trapped
(core module $code
  (memory (export "memory") 1)
  (type $taking (func (param i64)))
  (table 1 funcref)
  (elem (i32.const 0) $plain)
  (func $plain)
  (func (export "realloc") (param i32 i32 i32 i32) (result i32)
    i32.const 1024)
  (func (export "build") (param i32 i32 i32 i32 i32 i32 i32 i64 i32 i32) (result i32)
    (call_indirect (type $taking) (i64.const 1) (i32.const 0))
    i32.const 16))
