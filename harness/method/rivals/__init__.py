"""Terms of the loss that other papers put beside the denoising one; their settings are in `config/rivals/`."""
