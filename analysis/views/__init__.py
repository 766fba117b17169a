"""What people look at and take away: the token view, the page, exported files. Knows no torch and no model."""
