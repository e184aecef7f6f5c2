"""Times the operations of issl_kernels beside eager torch, torch.compile and other libraries."""
