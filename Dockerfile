# A small image that serves HTTP as a user without rights. Data lie in /data: mount a volume there.
#   docker build -t mcp-server-claude .
# As a stdio server of one client, which has no port to check:
#   docker run -i --rm --no-healthcheck -e MCP_CLAUDE_API_KEY -v mcp-server-claude:/data mcp-server-claude serve
# Where no image can be built, scripts/image.py does the same steps in a directory.
FROM python:3.13-slim AS build
WORKDIR /src
COPY pyproject.toml constraints.txt README.md LICENSE ./
COPY src src
RUN python -m venv /opt/venv
RUN /opt/venv/bin/python -m pip install --quiet --no-cache-dir --disable-pip-version-check --constraint constraints.txt ".[otel,prometheus,postgres]"
RUN /opt/venv/bin/python -m pip uninstall --quiet --yes --disable-pip-version-check pip

FROM python:3.13-slim
COPY --from=build /opt/venv /opt/venv
ENV PATH=/opt/venv/bin:$PATH PYTHONDONTWRITEBYTECODE=1 MCP_CLAUDE_DATA_DIR=/data
RUN useradd --uid 10001 --user-group --no-log-init --no-create-home --home-dir /data --shell /usr/sbin/nologin claude \
    && install --directory --mode=0700 --owner=claude --group=claude /data
USER claude
VOLUME /data
EXPOSE 8000
# The first check comes after an interval (Docker before 25 refuses --start-interval), so what waits for it waits that long.
HEALTHCHECK --interval=10s --timeout=5s --start-period=30s CMD ["python", "-c", "import urllib.request as r; r.urlopen('http://127.0.0.1:8000/healthz', timeout=2)"]
STOPSIGNAL SIGTERM
ENTRYPOINT ["mcp-server-claude"]
CMD ["serve", "--http", "--host", "0.0.0.0", "--port", "8000"]
