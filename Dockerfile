# The demo on a CPU. The commands are those of the Makefile, without a virtual environment.
#
#   docker build -t steadyrl .
#   docker run --rm -v "$PWD/runs:/app/runs" steadyrl
#   docker run --rm steadyrl recipes
FROM python:3.11-slim

ENV OMP_NUM_THREADS=1 \
    PIP_EXTRA_INDEX_URL=https://download.pytorch.org/whl/cpu

RUN useradd --create-home steadyrl
WORKDIR /app

# torch comes first and pinned, so that no other package brings in another build of it.
COPY constraints.txt ./
RUN pip install --quiet --constraint constraints.txt torch

COPY pyproject.toml README.md LICENSE ./
COPY src ./src
RUN pip install --quiet --constraint constraints.txt --editable .

# A folder that the user may write, also as the mount point of a volume.
RUN mkdir runs && chown steadyrl runs
USER steadyrl

ENTRYPOINT ["steadyrl"]
CMD ["train", "demo", "--out", "runs/demo"]
