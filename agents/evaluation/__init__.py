"""What a policy is worth: records of episodes on held-out images, and pure functions of them."""
