"""Cards: a boot partition that makes a device of whatever machine it is put into."""
