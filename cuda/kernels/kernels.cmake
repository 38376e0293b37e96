# The kernels' files, each compiled by nvcc for the device and, in the tests, by the host's compiler for the emulator.
set(OTR_CUDA_KERNELS
  add.cu
  append_kv.cu
  attention.cu)
list(TRANSFORM OTR_CUDA_KERNELS PREPEND ${PROJECT_SOURCE_DIR}/cuda/kernels/)
