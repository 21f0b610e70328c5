"""MLflow: stores (`store`), runs (`runs`), registered models (`registry`). Nothing else imports mlflow."""
