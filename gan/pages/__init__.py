"""What people look at: pictures, charts and the report's page."""
