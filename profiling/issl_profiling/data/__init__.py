"""What loading costs, stage by stage, beside torchvision's loader; memory while it loads."""
