"""The words of the house: frozen data and the arithmetic on it; standard library only."""
