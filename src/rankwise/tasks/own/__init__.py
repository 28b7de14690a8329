"""Tasks on data of the user's own: files, image folders and data sets of the Hub."""
