#!/bin/sh
# Run by the image of PostgreSQL when it has filled a new volume: the servers get a role that owns its database and nothing
# else. The superuser has no password afterwards, so it can only be used inside the container: psql --username=postgres
psql --username=postgres --no-psqlrc --quiet --set=ON_ERROR_STOP=1 --set=password="$POSTGRES_PASSWORD" <<'SQL'
create role claude login password :'password';
create database claude owner claude;
alter role postgres password null;
SQL
