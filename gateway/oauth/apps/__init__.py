"""Which apps there are, where they are installed, and what people have granted to them."""
