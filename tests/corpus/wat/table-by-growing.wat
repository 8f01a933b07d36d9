;; Grows a table for ever.
;; expects: builder-out-of-fuel
;; limits: fuel=2000000
(core module $code
  (memory (export "memory") 1)
  (table $t 0 funcref)
  (func (export "realloc") (param i32 i32 i32 i32) (result i32)
    i32.const 1024)
  (func (export "build") (param i32 i32 i32 i32 i32 i32 i32 i64 i32 i32) (result i32)
    (loop $more
      (drop (table.grow $t (ref.null func) (i32.const 1000)))
      (br $more))
    unreachable))
