;; Asks for more memory for ever, whatever the answer.
;; expects: builder-out-of-fuel
;; limits: fuel=2000000
(core module $code
  (memory (export "memory") 1)
  (func (export "realloc") (param i32 i32 i32 i32) (result i32)
    i32.const 1024)
  (func (export "build") (param i32 i32 i32 i32 i32 i32 i32 i64 i32 i32) (result i32)
    (loop $more
      (drop (memory.grow (i32.const 1)))
      (br $more))
    unreachable))
