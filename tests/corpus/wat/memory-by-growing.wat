;; Grows its memory until it is told no, writes to the last page, and traps.
;; expects: builder-trapped
;; limits: fuel=4000000000
(core module $code
  (memory (export "memory") 1)
  (func (export "realloc") (param i32 i32 i32 i32) (result i32)
    i32.const 1024)
  (func (export "build") (param i32 i32 i32 i32 i32 i32 i32 i64 i32 i32) (result i32)
    (local $had i32)
    (loop $more
      (local.set $had (memory.grow (i32.const 256)))
      (br_if $more (i32.ne (local.get $had) (i32.const -1))))
    (memory.fill (i32.const 0) (i32.const 1) (i32.mul (memory.size) (i32.const 65536)))
    unreachable))
