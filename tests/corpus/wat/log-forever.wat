;; Logs the same line for ever.
;; expects: builder-out-of-fuel
;; imports: log
(core module $code
  (import "host" "memory" (memory 1))
  (import "host" "log" (func $log (param i32 i32 i32)))
  (func (export "build") (param i32 i32 i32 i32 i32 i32 i32 i64 i32 i32) (result i32)
    (loop $more
      (call $log (i32.const 1) (i32.const 0) (i32.const 100))
      (br $more))
    unreachable))
