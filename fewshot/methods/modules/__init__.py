"""Networks that methods use besides the backbone."""
