"""What runs inside a pod: the contract with the control plane, energy meters, checkpoints, training, inference."""
