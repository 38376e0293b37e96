# The kernels' files, each compiled by nvcc for the device and, in the tests, by the host's compiler for the emulator.
set(OTR_CUDA_KERNELS
  add.cu
  add_bias.cu
  append_kv.cu
  attention.cu
  attention_tree.cu
  copy.cu
  matmul.cu
  matmul_codebooks.cu
  matmul_dense.cu
  matmul_k_quants.cu
  matmul_legacy.cu
  matmul_own.cu
  matmul_own_128.cu
  matmul_own_codebook.cu
  move_kv.cu
  quantize.cu
  receive.cu
  remainder.cu
  rms_norm.cu
  rope.cu
  round.cu
  send.cu
  silu_mul.cu)
list(TRANSFORM OTR_CUDA_KERNELS PREPEND ${PROJECT_SOURCE_DIR}/cuda/kernels/)
