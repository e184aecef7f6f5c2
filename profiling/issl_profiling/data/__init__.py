"""What loading costs, and how far its crops are from torchvision's."""
