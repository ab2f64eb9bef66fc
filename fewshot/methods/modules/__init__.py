"""Networks that methods have besides their backbone."""
