# An AMI with the agent in it, for Amazon Linux 2023, Ubuntu 24.04 or Debian 12:
#
#   make packages
#   packer build -only='amazon-ebs.ubuntu' -var region=eu-central-1 -var config=config.toml packaging/packer
#
# Packer 1.7 and newer bring the builder as a plugin: `packer plugins install github.com/hashicorp/amazon` first.
# An image of your own is made by adding bake.sh, and the two files before it, as the last provisioners there.

variable "region" {
  type    = string
  default = "us-east-1"
}

variable "instance_type" {
  type        = string
  default     = "t3.small"
  description = "Of the architecture that is asked for."
}

variable "architecture" {
  type        = string
  default     = "x86_64"
  description = "The images' word for it: x86_64 or arm64."
}

variable "version" {
  type        = string
  default     = "0.1.0"
  description = "Of the packages that were made."
}

variable "packages" {
  type        = string
  default     = "dist"
  description = "The directory with the packages in it."
}

variable "config" {
  type        = string
  default     = "packaging/packer/config.toml"
  description = "What becomes /etc/lifecycle-agent/config.toml; paths are relative to where packer is started."
}

locals {
  name = "lifecycle-agent-${var.version}"
  deb  = "${var.packages}/lifecycle-agent_${var.version}_${var.architecture == "arm64" ? "arm64" : "amd64"}.deb"
  rpm  = "${var.packages}/lifecycle-agent_${var.version}_${var.architecture == "arm64" ? "aarch64" : "x86_64"}.rpm"
}

source "amazon-ebs" "amazon-linux" {
  region        = var.region
  instance_type = var.instance_type
  ssh_username  = "ec2-user"
  ami_name      = "${local.name}-al2023-{{timestamp}}"
  source_ami_filter {
    owners      = ["137112412989"] # Amazon
    most_recent = true
    filters = {
      name                = "al2023-ami-2023.*"
      architecture        = var.architecture
      root-device-type    = "ebs"
      virtualization-type = "hvm"
    }
  }
}

source "amazon-ebs" "ubuntu" {
  region        = var.region
  instance_type = var.instance_type
  ssh_username  = "ubuntu"
  ami_name      = "${local.name}-ubuntu-24.04-{{timestamp}}"
  source_ami_filter {
    owners      = ["099720109477"] # Canonical
    most_recent = true
    filters = {
      name                = "ubuntu/images/hvm-ssd-gp3/ubuntu-noble-24.04-*-server-*"
      architecture        = var.architecture
      root-device-type    = "ebs"
      virtualization-type = "hvm"
    }
  }
}

source "amazon-ebs" "debian" {
  region        = var.region
  instance_type = var.instance_type
  ssh_username  = "admin"
  ami_name      = "${local.name}-debian-12-{{timestamp}}"
  source_ami_filter {
    owners      = ["136693071363"] # Debian
    most_recent = true
    filters = {
      name                = "debian-12-*"
      architecture        = var.architecture
      root-device-type    = "ebs"
      virtualization-type = "hvm"
    }
  }
}

build {
  sources = [
    "source.amazon-ebs.amazon-linux",
    "source.amazon-ebs.ubuntu",
    "source.amazon-ebs.debian",
  ]

  provisioner "file" {
    only        = ["amazon-ebs.amazon-linux"]
    source      = local.rpm
    destination = "/tmp/lifecycle-agent.rpm"
  }

  provisioner "file" {
    only        = ["amazon-ebs.ubuntu", "amazon-ebs.debian"]
    source      = local.deb
    destination = "/tmp/lifecycle-agent.deb"
  }

  provisioner "file" {
    source      = var.config
    destination = "/tmp/lifecycle-agent.toml"
  }

  # The last one: it also takes away what makes a machine this one and no other.
  provisioner "shell" {
    script          = "${path.root}/bake.sh"
    execute_command = "sudo sh '{{ .Path }}'"
  }
}
