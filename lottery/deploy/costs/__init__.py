"""What a network costs in each of its forms: counted, measured on this device, and said in words."""
