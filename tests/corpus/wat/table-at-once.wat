;; Declares a table of ten million entries.
;; expects: builder-out-of-memory
(core module $code
  (memory (export "memory") 1)
  (table 10000000 funcref)
  (func (export "realloc") (param i32 i32 i32 i32) (result i32)
    i32.const 1024)
  (func (export "build") (param i32 i32 i32 i32 i32 i32 i32 i64 i32 i32) (result i32)
    i32.const 16))
