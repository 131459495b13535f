"""The registrar: alone it holds the key that certifies devices, and answers those that may have one."""
