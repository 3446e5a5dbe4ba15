"""The folder is the database: where things live, what their files hold, and how each training stands."""
