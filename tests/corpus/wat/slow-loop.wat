;; A loop that outlasts the clock rather than the fuel.
;; expects: builder-deadline
;; limits: fuel=1000000000000 run_seconds=1
(core module $code
  (memory (export "memory") 1)
  (func (export "realloc") (param i32 i32 i32 i32) (result i32)
    i32.const 1024)
  (func (export "build") (param i32 i32 i32 i32 i32 i32 i32 i64 i32 i32) (result i32)
    (loop $forever (br $forever))
    unreachable))
