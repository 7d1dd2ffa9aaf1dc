"""Recipes: how what this project trained itself was made; none is part of the package."""
