;; Imports wasi:random/random.
;; expects: component-imports-foreign
(component
  (import "wasi:random/random@0.2.0" (instance (export "get-random-bytes" (func (param "len" u64) (result (list u8)))))))
