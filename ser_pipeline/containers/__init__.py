"""What the containers of audio say of their own length, and how far their bytes bear it out."""
