;; Fills a table again and again.
;; expects: builder-out-of-fuel
(core module $code
  (memory (export "memory") 1)
  (table $t 100000 funcref)
  (func (export "realloc") (param i32 i32 i32 i32) (result i32)
    i32.const 1024)
  (func (export "build") (param i32 i32 i32 i32 i32 i32 i32 i64 i32 i32) (result i32)
    (loop $forever
      (table.fill $t (i32.const 0) (ref.null func) (i32.const 100000))
      (br $forever))
    unreachable))
